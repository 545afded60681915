/* Has a tracer turn a harmless call of a child into a connect of a host socket. */
#include "attack.h"
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#ifdef __x86_64__
static void attack(void) {
    int fd = refused();
    set_blocking(fd, false);
    pid_t child = fork();
    if (child == 0) {
        must(ptrace(PTRACE_TRACEME, 0, 0, 0), "ptrace");
        raise(SIGSTOP);
        syscall(SYS_getpgid, fd, &to, length(&to));
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    for (bool entry = true; ptrace(PTRACE_SYSCALL, child, 0, 0) == 0; entry = !entry) {
        if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status)) break;
        size_t number = offsetof(struct user, regs.orig_rax);
        if (entry && ptrace(PTRACE_PEEKUSER, child, number, 0) == SYS_getpgid)
            ptrace(PTRACE_POKEUSER, child, number, SYS_connect);
    }
    await(fd);
}
#else
static void attack(void) {
    errno = ENOSYS;
    could_not("registers of x86-64");
}
#endif
