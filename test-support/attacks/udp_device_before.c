/* Chooses the loopback device by every option before the socket becomes one of the host, and
 * sends. */
#include "attack.h"

static void attack(void) {
    int fd = fresh(SOCK_DGRAM), network_one = htonl(1), one = 1;
    struct in6_pktinfo by = {.ipi6_ifindex = 1};
    setsockopt(fd, IPPROTO_IP, 50 /* IP_UNICAST_IF */, &network_one, sizeof network_one);
    setsockopt(fd, IPPROTO_IPV6, 76 /* IPV6_UNICAST_IF */, &network_one, sizeof network_one);
    setsockopt(fd, IPPROTO_IPV6, IPV6_PKTINFO, &by, sizeof by);
    setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_DONTROUTE, &one, sizeof one);
    must(connect(fd, &remote.any, length(&remote)), "connect to a server that may be reached");
    reach_by_datagram(fd);
}
