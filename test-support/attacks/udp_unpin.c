/* Binds a UDP socket of the host to another device or to none, and sends. */
#include "attack.h"

static void attack(void) {
    int fd = connected(SOCK_DGRAM), zero = 0, one = 1, network_one = htonl(1);
    struct in6_pktinfo by = {.ipi6_ifindex = 1};
    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0);
    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
    setsockopt(fd, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, &zero, sizeof zero);
    setsockopt(fd, SOL_SOCKET, 62, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, 50 /* IP_UNICAST_IF */, &network_one, sizeof network_one);
    setsockopt(fd, IPPROTO_IPV6, 76 /* IPV6_UNICAST_IF */, &network_one, sizeof network_one);
    setsockopt(fd, IPPROTO_IPV6, IPV6_PKTINFO, &by, sizeof by);
    setsockopt(fd, SOL_SOCKET, SO_DONTROUTE, &one, sizeof one);
    reach_by_datagram(fd);
}
