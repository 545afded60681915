/* Sends to it by io_uring, with an IP_PKTINFO control message that names the loopback device. */
#include "ring.h"

static struct iovec data;
static union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(struct in_pktinfo))]; } control;

static void prepare(struct msghdr *message) {
    struct in_pktinfo by = {.ipi_ifindex = 1};
    data = (struct iovec){(char *)token, strlen(token)};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof by), IPPROTO_IP, IP_PKTINFO};
    memcpy(CMSG_DATA(&control.header), &by, sizeof by);
    *message = (struct msghdr){
        .msg_name = &to, .msg_namelen = length(&to), .msg_iov = &data, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = family() == AF_INET ? sizeof control : 0,
    };
}

static void attack(void) {
    struct msghdr message;
    prepare(&message);
    submit(&(struct io_uring_sqe){
        .opcode = IORING_OP_SENDMSG,
        .fd = connected(SOCK_DGRAM),
        .addr = (uintptr_t)&message,
        .len = 1,
    });
}
