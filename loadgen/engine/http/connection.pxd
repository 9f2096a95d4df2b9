import cython
from libc.stdint cimport int64_t

from loadgen.engine.http.response.chunked_body cimport ChunkedBody
from loadgen.engine.primitives cimport has_input, numbered, write_at_once
from loadgen.engine.recorder cimport Recorder

cdef int CLOSED, IDLE, SENT, BODY, COMPLETE, EXCESS
cdef int _NO_DESCRIPTOR
cdef Py_ssize_t BROKEN
cdef int64_t CHUNKED


cdef class Connection:
    cdef public object _host
    cdef public object _pool
    cdef public Recorder _recorder
    cdef public object _now_ns
    cdef public dict _known_heads
    cdef public bytes _last_head
    cdef public object _last_known
    cdef public object _transport
    cdef public ChunkedBody _chunks
    cdef public object _wire
    cdef public object _first
    cdef public bytes _partial
    cdef public bytes _redirect
    cdef public int _socket
    cdef public int _descriptor
    cdef public int _stage
    cdef public int _status
    cdef public bint _buffered
    cdef public int _reason
    cdef public bint _unwritten
    cdef public bint _is_used
    cdef public bint _is_retired
    cdef public str address
    cdef public str endpoint
    cdef public bint _keep
    cdef public int64_t _left
    cdef public int64_t _client
    cdef public int64_t _sequence
    cdef public int64_t _version
    cdef public int64_t _size
    cdef public int64_t _intended_ns
    cdef public int64_t _dispatched_ns
    cdef public int64_t deadline_ns
    cdef public int64_t sent_ns
    cdef public int64_t queued_ns

    cpdef object load(
        self, int64_t intended_ns, int64_t client, int64_t sequence, int64_t version, wire, first=*
    )
    @cython.locals(written=Py_ssize_t, sent_ns=int64_t, deadline_ns=int64_t)
    cpdef int64_t write(self, bytes data, int64_t dispatched_ns) except -1
    cpdef _end(self, int64_t outcome, int64_t done_ns, int64_t status)
    cpdef _fail(self, outcome)
    cpdef _complete(self)
    cpdef bint _follow(self) except -1
    cpdef object _hop(self, bytes head)
    cpdef bint _resend(self) except -1
    cpdef _release(self)
    cpdef bint is_usable(self) except -1
    cpdef _lost(self, outcome)
    cpdef bint _is_unsent(self) except -1
    cpdef _close(self)
    @cython.locals(end=Py_ssize_t)
    cpdef data_received(self, bytes data)
    @cython.locals(begin=Py_ssize_t, end=Py_ssize_t)
    cpdef Py_ssize_t _read_heads(self, bytes data) except -1
    @cython.locals(received=Py_ssize_t, end=Py_ssize_t)
    cpdef _read_body(self, bytes data, Py_ssize_t begin)
