/* Binds to a published port, and connects from there by io_uring. */
#include "ring.h"

static void attack(void) {
    int fd = fresh(SOCK_STREAM);
    must(bind(fd, &published.any, length(&published)), "bind to a published port");
    submit(&(struct io_uring_sqe){
        .opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uintptr_t)&to, .off = length(&to),
    });
    if (connected_to(fd, &to)) tell(fd);
}
