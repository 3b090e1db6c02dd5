//! The server's own tokens of a text, to compare with those of the tokenizer that is used here.

use idiolect_model::ModelError;
use serde_json::{Value, json};

use super::refusal::Fault;
use super::transport::{Call, Path, Stop};
use super::{Endpoint, network};

impl Endpoint {
    /// The token ids that the server makes of a text, without special tokens; `None` where it does
    /// not state it (vLLM, llama.cpp and `idiolect serve` do, at `/tokenize`).
    ///
    /// # Errors
    /// Where the server does not live.
    pub fn token_ids(&self, text: &str) -> Result<Option<Vec<u32>>, ModelError> {
        let bodies = [
            json!({"model": self.info.name, "prompt": text, "add_special_tokens": false}),
            // llama.cpp takes no notice of a `prompt` and answers with no tokens.
            json!({"content": text, "add_special": false}),
        ];
        let network = network()?;
        for body in bodies {
            let call = Call::post(Path::Beside("tokenize"), &body);
            match network.block_on(self.transport.ask(&call, &read, 0)) {
                Ok(ids) if !ids.is_empty() => return Ok(Some(ids)),
                Ok(_) | Err(Stop::Row(_)) => {}
                // A path that the server does not have.
                Err(Stop::All(error)) if error.to_string().contains("status 4") => {}
                Err(Stop::All(error)) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn read(reply: &Value) -> Result<Vec<u32>, Fault> {
    let ids = reply.get("tokens").and_then(Value::as_array);
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    ids.and_then(|ids| ids.iter().map(id).collect())
        .ok_or_else(|| Fault::row("the reply holds no list of token ids"))
}
