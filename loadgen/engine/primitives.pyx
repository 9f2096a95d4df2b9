"""primitives.py for a compiled engine; the docstrings are there."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport ECONNRESET, EPIPE, errno
from libc.stdint cimport UINT8_MAX, UINT16_MAX, UINT32_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from posix.unistd cimport write

from loadgen.protocol.trace_batch import ROW_BYTES

BROKEN = -2
_LEAST_ROWS = 1024


# As loadgen.protocol.trace_batch.COLUMNS; little-endian, as the machines are that it is compiled on.
cdef packed struct Row:
    uint32_t client
    uint32_t sequence
    int64_t intended_ns
    int64_t lateness_ns
    int64_t connection_wait_ns
    int64_t service_time_ns
    uint8_t outcome
    uint16_t status
    uint16_t host
    int64_t size
    uint32_t routing_version
    uint8_t reason
    uint8_t resent


if sizeof(Row) != ROW_BYTES:
    raise ImportError(f"primitives.pyx: its row has {sizeof(Row)} bytes, that of loadgen.protocol.trace_batch {ROW_BYTES}")


# As many digits as a number of 64 bits has.
cdef enum:
    DIGITS = 20


cdef char* _number_before(char* end, uint64_t number) noexcept:
    """Writes a decimal number of 10 digits at least that ends there; returns where it begins."""
    cdef char* last = end - 10
    while number != 0 or end > last:
        end -= 1
        end[0] = 48 + number % 10
        number //= 10
    return end


cpdef bytes numbered(bytes head, int64_t client, int64_t sequence, bytes tail):
    cdef char[2 * DIGITS + 1] number
    cdef char* end = &number[2 * DIGITS + 1]
    cdef char* begin
    cdef Py_ssize_t before = PyBytes_GET_SIZE(head), after = PyBytes_GET_SIZE(tail), length
    if client < 0 or sequence < 0:
        raise ValueError(f"neither {client} nor {sequence} may be negative")
    begin = _number_before(end, <uint64_t>sequence) - 1
    begin[0] = b"-"
    begin = _number_before(begin, <uint64_t>client)
    length = end - begin
    request = PyBytes_FromStringAndSize(NULL, before + length + after)
    memcpy(PyBytes_AS_STRING(request), PyBytes_AS_STRING(head), before)
    memcpy(PyBytes_AS_STRING(request) + before, begin, length)
    memcpy(PyBytes_AS_STRING(request) + before + length, PyBytes_AS_STRING(tail), after)
    return request


cpdef Py_ssize_t write_at_once(int descriptor, bytes data) except -1:
    cdef const char* begin = PyBytes_AS_STRING(data)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(data), written
    cdef int error = 0
    with nogil:
        written = write(descriptor, begin, length)
        if written < 0:
            error = errno
    if error == EPIPE or error == ECONNRESET:
        return -2
    return written if written > 0 else 0


cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd* files, unsigned long number, int timeout_ms)
    enum: POLLIN


cpdef bint has_input(int descriptor) except -1:
    cdef pollfd file
    file.fd = descriptor
    file.events = POLLIN
    file.revents = 0
    return poll(&file, 1, 0) != 0


cdef class Rows:
    def __init__(self):
        self._begin(_LEAST_ROWS)

    def __len__(self):
        return self._position // <Py_ssize_t>sizeof(Row)

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
    ) except -1:
        cdef Py_ssize_t position = self._position
        cdef Row* row
        if (
            not 0 <= client <= UINT32_MAX
            or not 0 <= sequence <= UINT32_MAX
            or not 0 <= outcome <= UINT8_MAX
            or not 0 <= status <= UINT16_MAX
            or not 0 <= host <= UINT16_MAX
            or not 0 <= routing_version <= UINT32_MAX
            or not 0 <= reason <= UINT8_MAX
            or not 0 <= resent <= UINT8_MAX
        ):
            values = client, sequence, outcome, status, host, routing_version, reason, resent
            raise OverflowError(f"a row cannot hold one of these: {values}")
        if position == self._end:
            self._buffer.extend(bytes(position))
            self._end += position
        row = <Row*>(<char*>self._buffer + position)
        row.client = <uint32_t>client
        row.sequence = <uint32_t>sequence
        row.intended_ns = intended_ns
        row.lateness_ns = lateness_ns
        row.connection_wait_ns = connection_wait_ns
        row.service_time_ns = service_time_ns
        row.outcome = <uint8_t>outcome
        row.status = <uint16_t>status
        row.host = <uint16_t>host
        row.size = size
        row.routing_version = <uint32_t>routing_version
        row.reason = <uint8_t>reason
        row.resent = <uint8_t>resent
        self._position = position + <Py_ssize_t>sizeof(Row)
        return 0

    cpdef object take(self):
        taken = memoryview(self._buffer)[: self._position]
        self._begin(max(self._position // <Py_ssize_t>sizeof(Row) * 5 // 4, <Py_ssize_t>_LEAST_ROWS))
        return taken

    cdef int _begin(self, Py_ssize_t rows) except -1:
        self._buffer = bytearray(rows * <Py_ssize_t>sizeof(Row))
        self._end = rows * <Py_ssize_t>sizeof(Row)
        self._position = 0
        return 0
