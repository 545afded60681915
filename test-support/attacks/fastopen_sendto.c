/* Sends with MSG_FASTOPEN (sendto), which connects, from a host socket whose connect was
 * refused. */
#include "attack.h"

static void attack(void) { reach_by_fastopen(refused()); }
