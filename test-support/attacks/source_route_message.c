/* Sends with an IPv6 source route in a control message (IPV6_RTHDR). */
#include "route.h"

static void attack(void) {
    struct route route = by_way_of();
    int fd = connected(SOCK_DGRAM);
    struct iovec data = {(char *)token, strlen(token)};
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof route)]; } control = {0};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof route), IPPROTO_IPV6, IPV6_RTHDR};
    memcpy(CMSG_DATA(&control.header), &route, sizeof route);
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof control,
    };
    must(sendmsg(fd, &message, 0), "sendmsg");
}
