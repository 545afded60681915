/* Sends to it from a published UDP port, with an IP_PKTINFO control message that names the
 * loopback device. */
#include "pktinfo.h"

static void attack(void) {
    must(by_loopback(published_datagrams()), "sendmsg");
}
