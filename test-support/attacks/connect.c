/* Connects to it, with every spelling of the address. */
#include "attack.h"

static void attack(void) { reach(fresh(SOCK_STREAM)); }
