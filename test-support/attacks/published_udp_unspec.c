/* Dissolves a published UDP socket by one of two descriptors, and sends from the other. */
#include "attack.h"

static void attack(void) {
    int fd = published_datagrams();
    put_by(fd);
    must(connect(fd, &remote.any, length(&remote)), "connect to a server that may be reached");
    must(unspec(fd), "connect(AF_UNSPEC)");
    reach_by_datagram(fetched());
    reach_by_datagram(fd);
}
