/* SPDX-License-Identifier: Apache-2.0 */
#include "claims.h"

bool claims_return(uint64_t *word, uint64_t held, bool clean)
{
	struct layout_claim claim = layout_claim_decode(held);
	claim.state = LAYOUT_RETURNED;
	/* A saturated count no longer says how often it was delivered: leave it. */
	if (clean && claim.deliveries > 0 && claim.deliveries < LAYOUT_MAX_DELIVERIES)
		claim.deliveries--;
	/* K4: return, before the redelivery epoch (R1), pairs with C2 in peek_queue and K1 in claims_take */
	return atomic_swap_exact(word, held, layout_claim_encode(claim));
}
