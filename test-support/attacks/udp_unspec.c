/* Dissolves a UDP socket of the host by one of two descriptors, and sends from the other. */
#include "attack.h"

static void attack(void) {
    reach_by_datagram(dissolved(SOCK_DGRAM));
}
