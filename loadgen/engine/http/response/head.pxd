import cython


cpdef read_head(bytes head)
@cython.locals(begin=Py_ssize_t)
cpdef bytes _field(bytes block, bytes name)
