from libc.stdint cimport int64_t


cpdef bytes numbered(bytes head, int64_t client, int64_t sequence, bytes tail)
cpdef Py_ssize_t write_at_once(int descriptor, bytes data) except -1
cpdef bint has_input(int descriptor) except -1


cdef class Rows:
    cdef bytearray _buffer
    cdef Py_ssize_t _end, _position

    cpdef int put(
        self,
        int64_t client,
        int64_t sequence,
        int64_t intended_ns,
        int64_t lateness_ns,
        int64_t connection_wait_ns,
        int64_t service_time_ns,
        int64_t outcome,
        int64_t status,
        int64_t host,
        int64_t size,
        int64_t routing_version,
        int64_t reason,
        int64_t resent,
    ) except -1
    cpdef object take(self)
    cdef int _begin(self, Py_ssize_t rows) except -1
