/* Traces, reads and takes descriptors from every process that is not its own, the supervisor if
 * it can. */
#include "attack.h"
#include <sys/ptrace.h>
#include <dirent.h>

/* The process ids that can be seen, but for those of the attack itself. */
static pid_t next_other(DIR *all) {
    struct dirent *one;
    while ((one = readdir(all))) {
        pid_t pid = atoi(one->d_name);
        if (pid > 0 && pid != getpid() && pid != getppid()) return pid;
    }
    return 0;
}

static DIR *must_open(const char *path) {
    DIR *all = opendir(path);
    if (!all) could_not("opendir");
    return all;
}

static void attack(void) {
    DIR *all = must_open("/proc");
    for (pid_t pid; (pid = next_other(all));) {
        if (native && pid != supervisor) continue;
        if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) reached("ptrace");
        char path[100];
        snprintf(path, sizeof path, "/proc/%d/mem", pid);
        if (open(path, O_RDWR) >= 0) reached("mem");
        int pidfd = syscall(SYS_pidfd_open, pid, 0);
        for (int fd = 0; fd < 64; fd++) {
            if (syscall(SYS_pidfd_getfd, pidfd, fd, 0) >= 0) reached("pidfd_getfd");
            snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
            if (open(path, O_RDONLY | O_NONBLOCK) >= 0) reached("a descriptor in /proc");
        }
        close(pidfd);
    }
}
