/* A datagram whose control message names the loopback device. */

#ifndef PKTINFO_H
#define PKTINFO_H

#include "attack.h"

/* Sends the token by the loopback device, whatever the socket is bound to. */
static int by_loopback(int fd) {
    struct iovec data = {(char *)token, strlen(token)};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control = {0};
    struct msghdr message = {
        .msg_name = &to, .msg_namelen = length(&to), .msg_iov = &data, .msg_iovlen = 1,
        .msg_control = &control,
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

#endif
