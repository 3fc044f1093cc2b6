# SPDX-License-Identifier: Apache-2.0
"""The two ways a batch can take. Each is a module with a NAME, a Sender for workers and a Receiver for inference."""
import transport_pickle
import transport_sluice

WAYS = {"pickle": transport_pickle, "sluice": transport_sluice}
