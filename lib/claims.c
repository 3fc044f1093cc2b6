/* SPDX-License-Identifier: Apache-2.0 */
#include "claims.h"

bool claims_return(uint64_t *word, uint64_t held, bool clean)
{
	struct layout_claim claim = layout_claim_decode(held);
	claim.state = LAYOUT_RETURNED;
	/* A saturated count no longer says how often it was delivered: leave it. */
	if (clean && claim.deliveries > 0 && claim.deliveries < LAYOUT_MAX_DELIVERIES)
		claim.deliveries--;
	/* K4: return, pairs with C2 (the claim word's load in consumer.c) after the redelivery epoch R1. */
	return atomic_swap_exact(word, held, layout_claim_encode(claim));
}
