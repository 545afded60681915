/* Passes a host socket to another process by SCM_RIGHTS, which connects it. */
#include "attack.h"

static void attack(void) {
    int fd = dissolved(SOCK_STREAM), pair[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    char byte = 0;
    struct iovec data = {&byte, 1};
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control = {0};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof control,
    };
    if (fork() == 0) {
        close(fd);
        must(recvmsg(pair[1], &message, 0), "recvmsg");
        memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
        reach(fd);
        _exit(0);
    }
    control.header = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    must(sendmsg(pair[0], &message, 0), "sendmsg");
    wait(NULL);
}
