//! Services that are called over a network, whatever the protocol: which records share a request, how many requests are
//! under way, when the service may be called at all, and who is to blame for what failed.

mod batch;
mod calls;
mod driver;
mod gate;
mod told;

pub use batch::{Batching, Share, cut};
pub use calls::{Calls, Endpoint, Item, Probe, Records, Reply, Said, failed, no_request, worst};
pub use driver::{EndpointDriver, batch_of};
pub use gate::LONGEST_ASKED;
pub use told::{AS_OF, AsOf, IDEMPOTENCY_KEY, REPLAY, idempotency_key, key_of, keys, trace};
