/* Installs a filter with a listener of its own, whose answer is to carry on. */
#include "attack.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>

static void attack(void) {
    struct sock_filter program[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_connect},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_USER_NOTIF},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl");
    int flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    int listener = must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter), "seccomp");
    if (fork() == 0) {
        reach(fresh(SOCK_STREAM));
        _exit(0);
    }
    struct seccomp_notif call = {0};
    must(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call), "SECCOMP_IOCTL_NOTIF_RECV");
    struct seccomp_notif_resp answer = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    wait(NULL);
}
