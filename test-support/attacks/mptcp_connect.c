/* Connects an MPTCP socket, of which supervisors know nothing. */
#include "attack.h"

static void attack(void) {
    reach(must(socket(family(), SOCK_STREAM, 262), "socket(IPPROTO_MPTCP)"));
}
