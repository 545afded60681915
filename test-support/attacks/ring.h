/* One operation by io_uring. */

#ifndef RING_H
#define RING_H

#include "attack.h"
#include <linux/io_uring.h>

/* Has the kernel carry out one operation. */
static void submit(const struct io_uring_sqe *operation) {
    struct io_uring_params params = {0};
    int ring = must(syscall(SYS_io_uring_setup, 4, &params), "io_uring_setup");
    size_t size = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    int kind = PROT_READ | PROT_WRITE;
    char *queue = mmap(NULL, size, kind, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entries = mmap(NULL, params.sq_entries * sizeof *entries, kind,
                                        MAP_SHARED, ring, IORING_OFF_SQES);
    if (queue == MAP_FAILED || entries == MAP_FAILED) could_not("mmap");
    entries[0] = *operation;
    uint32_t *tail = (uint32_t *)(queue + params.sq_off.tail);
    ((uint32_t *)(queue + params.sq_off.array))[*tail & (params.sq_entries - 1)] = 0;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    must(syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0), "io_uring_enter");
    struct pollfd done = {.fd = ring, .events = POLLIN};
    poll(&done, 1, 100);
}

#endif
