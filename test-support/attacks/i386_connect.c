/* Connects a host socket whose connect was refused by connect(2) of 32-bit x86 (int 0x80). */
#include "i386.h"

static void attack(void) {
    int fd = refused();
    address *at = low(sizeof *at);
    *at = to;
    set_blocking(fd, false);
    long result = i386(362, fd, (long)at, length(at));
    if (result == 0) tell(fd);
    if (result == -EINPROGRESS) await(fd);
    errno = -result;
    could_not("connect of i386");
}
