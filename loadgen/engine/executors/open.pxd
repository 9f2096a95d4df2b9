import cython
from libc.stdint cimport int64_t

from loadgen.engine.http.connection cimport Connection
from loadgen.engine.http.pool cimport Pool
from loadgen.engine.recorder cimport Recorder

cdef int INTENDED_NS, CLIENT


cdef class OpenExecutor:
    cdef public int64_t duration_ns
    cdef public object _arrivals
    cdef public object _source
    cdef public object _targets
    cdef public bint _is_replay
    cdef public object _routes
    cdef public Pool _pool
    cdef public Recorder _recorder
    cdef public int64_t _max_lateness_ns
    cdef public int64_t _max_in_flight
    cdef public tuple _next
    cdef public bint _begun
    cdef public int64_t _start_ns
    cdef public int _max_arrivals

    @cython.locals(ends_ns=int64_t)
    cpdef bint skip(self, int64_t before_ns, int64_t limit) except -1
    @cython.locals(burst=list, connection=Connection, begun_ns=int64_t, now_ns=int64_t)
    cpdef turn(self)
    @cython.locals(
        pool=Pool,
        fixed=dict,
        connection=Connection,
        arrival=tuple,
        budget=int,
        start_ns=int64_t,
        now_ns=int64_t,
        ends_ns=int64_t,
        intended_ns=int64_t,
        client=int64_t,
        sequence=int64_t,
        version=int64_t,
    )
    cpdef _load(self, list burst)
    cpdef _unsent(self, int64_t intended_ns, int64_t dispatched_ns, int64_t client, int64_t sequence, outcome)
