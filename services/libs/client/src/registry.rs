use caselock_proto::v1::registry_service_client::RegistryServiceClient;
use tonic::transport::Channel;

use crate::{Connect, connect::channel};

/// A client of the registry. The connection is made when it is needed, and made again when it breaks. `None` without any
/// server; of several the first counts.
pub fn registry(connect: &Connect) -> Result<Option<RegistryServiceClient<Channel>>, tonic::transport::Error> {
    let first = connect.servers.first().map(|server| channel(server, connect.tls.as_ref())).transpose()?;
    // A page of a thousand recordings with all that is known of them.
    Ok(first.map(|channel| RegistryServiceClient::new(channel).max_decoding_message_size(32 << 20)))
}
