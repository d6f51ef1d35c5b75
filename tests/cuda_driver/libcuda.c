// A libcuda.so.1 whose every function asks one handler: NAMES is a file of lines `ENTRY(cuInit)`, made by library.py.
//
// All parameters of the driver API are integers or pointers, so that one shape of call fits all: what was not passed
// is read from the caller's frame, and not used.
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/uio.h>
#include <unistd.h>

typedef int (*handler_type)(int, const uint64_t *);
static handler_type handler = 0;

void fake_set_handler(handler_type given) { handler = given; }

// Memory that may not be there: whether all of it could be read.
int fake_read(uint64_t address, uint64_t size, void *out) {
    struct iovec here = {out, size}, there = {(void *)address, size};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)size;
}

enum {
#define ENTRY(name) index_##name,
#include NAMES
#undef ENTRY
    count_of_entries
};

// Without a handler (the interpreter has ended, destructors run) nothing is left to do.
#define W uint64_t
#define ENTRY(name) \
    int name(W a, W b, W c, W d, W e, W f, W g, W h, W i, W j, W k, W l) { \
        W all[12] = {a, b, c, d, e, f, g, h, i, j, k, l}; \
        return handler ? handler(index_##name, all) : 0; \
    }
#include NAMES
