import cython
from libc.stdint cimport int64_t

from loadgen.engine.http.connection cimport Connection
from loadgen.engine.recorder cimport Recorder


cdef class HostPool:
    cdef public object pool
    cdef public object name
    cdef public bint keep_alive
    cdef public bint is_named
    cdef public bint routed
    cdef public dict idle
    cdef public object _dialer
    cdef public object _queue
    cdef public object _resends
    cdef public bint _same_timeouts
    cdef public Py_ssize_t _open
    cdef public Py_ssize_t _opening
    cdef public bint _retired

    @cython.locals(connection=Connection)
    cpdef int64_t send(
        self, int64_t intended_ns, int64_t dispatched_ns, int64_t client, int64_t sequence, int64_t version, wire
    ) except -1
    @cython.locals(connection=Connection)
    cpdef Connection take_idle(self, int64_t now_ns)
    cpdef ready(self, Connection connection)
    @cython.locals(now_ns=int64_t)
    cpdef _serve(self, Connection connection, queue)
    cpdef enqueue(self, request)


cdef class Pool:
    cdef public Recorder recorder
    cdef public object now_ns
    cdef public object max_per_host
    cdef public bint keep_alive
    cdef public object deadlines
    cdef public object known_heads
    cdef public int64_t send_until_ns
    cdef public object on_end
    cdef public set connections
    cdef public Py_ssize_t opening
    cdef public Py_ssize_t in_flight
    cdef public Py_ssize_t long_waits
    cdef public object captures
    cdef public Py_ssize_t kept_bytes
    cdef public object on_response
    cdef public object cookies
    cdef public object connection_kind
    cdef public dict hosts
    cdef public dict fixed
    cdef public object throttle
    cdef public object _max_connections
    cdef public object connect_timeout_s
    cdef public set _tasks
