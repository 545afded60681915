/* Executes a program that it may not read, so that the supervisor may not look into the
 * process, and has that send by sendmsg, with an IP_PKTINFO control message that names the
 * loopback device. */
#include "opaque.h"
#include "pktinfo.h"

static void attack(void) {
    if (kept_socket() >= 0) must(by_loopback(kept_socket()), "sendmsg");
    become_opaque(connected(SOCK_DGRAM));
}
