/* Sends to it with an IP_PKTINFO control message that names the loopback device. */
#include "pktinfo.h"

static void attack(void) {
    must(by_loopback(connected(SOCK_DGRAM)), "sendmsg");
}
