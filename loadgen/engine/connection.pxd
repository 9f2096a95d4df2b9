import cython
from libc.stdint cimport int64_t

from loadgen.engine.primitives cimport numbered, write_at_once
from loadgen.engine.recorder cimport Recorder

cdef int CLOSED, IDLE, SENT, BODY, COMPLETE, EXCESS, BROKEN
cdef int _NO_DESCRIPTOR


cdef class Connection:
    cdef object _host
    cdef object _pool
    cdef Recorder _recorder
    cdef object _now_ns
    cdef dict _heads
    cdef bytes _last_head
    cdef object _last_framed
    cdef object _transport
    cdef object _parser
    cdef object _wire
    cdef object _first
    cdef bytes _partial
    cdef bytes _redirect
    cdef int _descriptor
    cdef int _stage
    cdef int _status
    cdef bint _buffered
    cdef bint _keep
    cdef bint _until_eof
    cdef int64_t _client
    cdef int64_t _sequence
    cdef int64_t _version
    cdef int64_t _size
    cdef int64_t _intended_ns
    cdef int64_t _dispatched_ns
    cdef int64_t _sent_ns
    cdef public int64_t deadline_ns
    cdef public int64_t queued_ns

    cpdef object load(
        self, int64_t intended_ns, int64_t client, int64_t sequence, int64_t version, wire, first=*
    )
    @cython.locals(written=Py_ssize_t, sent_ns=int64_t, deadline_ns=int64_t)
    cpdef int64_t write(self, bytes data, int64_t dispatched_ns) except -1
    cpdef _end(self, int64_t outcome, int64_t done_ns, int64_t status)
    cpdef _fail(self, outcome)
    cdef _complete(self)
    cdef bint _follow(self) except -1
    cdef _release(self)
    cdef bint _is_unsent(self) except -1
    cdef _close(self)
    @cython.locals(before=int, end=Py_ssize_t, length=Py_ssize_t)
    cpdef data_received(self, bytes data)
