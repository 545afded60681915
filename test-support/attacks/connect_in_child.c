/* Has a forked child connect a host socket whose connection was dissolved. */
#include "attack.h"

static void attack(void) {
    int fd = dissolved(SOCK_STREAM);
    if (fork() == 0) {
        reach(fd);
        _exit(0);
    }
    wait(NULL);
}
