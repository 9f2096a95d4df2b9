from libc.stdint cimport int64_t

from loadgen.engine.primitives cimport Rows


cdef class Recorder:
    cdef public Rows _rows
    cdef public list _counts
    cdef public list _endpoints
    cdef public dict _endpoint_index
    cdef public int64_t _bytes_received
    cdef public bint cut_short
    cdef public int64_t skipped
    cdef public int64_t start_ns

    cpdef int row(
        self,
        int64_t client,
        int64_t sequence,
        int64_t intended_ns,
        int64_t dispatched_ns,
        int64_t sent_ns,
        int64_t done_ns,
        int64_t outcome,
        int64_t status,
        endpoint,
        int64_t size,
        int64_t routing_version,
        int64_t reason=*,
        int64_t resent=*,
    ) except -1
