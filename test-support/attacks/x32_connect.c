/* Connects a host socket whose connect was refused by connect(2) of x32. */
#include "attack.h"

static void attack(void) {
    int fd = refused();
    set_blocking(fd, false);
    if (syscall(0x40000000 | SYS_connect, fd, &to, length(&to)) == 0) tell(fd);
    if (errno == EINPROGRESS) await(fd);
    could_not("connect of x32");
}
