/* Executes a program that it may not read, so that the supervisor may not look into the
 * process, and has that send to an address that is denied. */
#include "opaque.h"

static void attack(void) {
    if (kept_socket() >= 0) reach_by_datagram(kept_socket());
    become_opaque(connected(SOCK_DGRAM));
}
