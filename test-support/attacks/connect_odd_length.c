/* Connects with lengths of the address that are too long, too short, negative or wider than an
 * int. */
#include "attack.h"

static void attack(void) {
    static const int64_t lengths[] = {
        -1, INT32_MIN, 0, 2, 3, 8, 15, 16, 24, 27, 28, 29, 127, 128, 129, 1 << 16,
        0x100000010, 0x10000001c, 0x7fffffff00000080,
    };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int fd = fresh(SOCK_STREAM | SOCK_NONBLOCK);
        if (syscall(SYS_connect, fd, &to, lengths[i]) == 0) tell(fd);
        if (errno == EINPROGRESS) await(fd);
        close(fd);
    }
}
