/* Connects a socket again whose first connect was refused. */
#include "attack.h"

static void attack(void) { reach(refused()); }
