import cython
from libc.stdint cimport int64_t


cdef class ChunkedBody:
    cdef public int64_t size
    cdef public bytearray _content
    cdef public int64_t _left
    cdef public int _skip
    cdef public bytes _line
    cdef public bint _in_trailers
    cdef public Py_ssize_t _trailer_bytes

    @cython.locals(length=Py_ssize_t, step=Py_ssize_t, end=Py_ssize_t, line=bytes)
    cpdef Py_ssize_t feed(self, bytes data, Py_ssize_t position) except -2
    cpdef bint ends_with_connection(self) except -1
    cpdef _begin_chunk(self, bytes line)
