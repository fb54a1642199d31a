//! A SASL mechanism of one's own: GSSAPI (RFC 4752) around a library of your choice. None is part of this crate, because
//! those in use (MIT, Heimdal) are C.
//!
//! [`Gssapi`] below is whole: the order of messages, what is checked, where blocking work goes. What is left open is the
//! trait [`Context`], the security context of the library. [`Toy`] stands in its place here. It protects nothing.
//!
//! ```sh
//! cargo run --example gssapi_plugin                              # plays both sides
//! cargo run --example gssapi_plugin -- broker.example.com:9093   # asks a broker, who will say what it offers
//! ```

use std::fmt;

use indelible::{Client, SaslConfig, SaslContext, SaslError, SaslExchange, SaslFuture, SaslMechanism, TlsConfig};
use zeroize::Zeroizing;

/// A GSS-API security context (RFC 2743) of an initiator, with mutual authentication asked for.
trait Context: Send + Sized + 'static {
    /// Gets a ticket for the service, such as `kafka@broker.example.com`. May block: it asks the key distribution centre.
    fn for_service(service: &str) -> Result<Self, String>;
    /// GSS_Init_sec_context: takes the broker's token, empty at first; gives ours, and whether the context is established.
    fn step(&mut self, token: &[u8]) -> Result<(Vec<u8>, bool), String>;
    /// GSS_Unwrap: fails when the message was not made by the other end of this context.
    fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String>;
    /// GSS_Wrap, without confidentiality.
    fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String>;
}

/// The mechanism: makes an [`Exchange`] for each connection.
struct Gssapi<C> {
    /// The first part of the brokers' principals; Kafka's `sasl.kerberos.service.name`.
    service: String,
    context: std::marker::PhantomData<fn() -> C>,
}

impl<C> Gssapi<C> {
    fn new(service: &str) -> Gssapi<C> {
        Gssapi { service: service.to_owned(), context: std::marker::PhantomData }
    }
}

impl<C> fmt::Debug for Gssapi<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gssapi").field("service", &self.service).finish()
    }
}

impl<C: Context> SaslMechanism for Gssapi<C> {
    fn name(&self) -> &str {
        "GSSAPI"
    }

    fn begin<'a>(&'a self, context: SaslContext<'a>) -> SaslFuture<'a> {
        // The host as settings or metadata name it. No look-up by DNS: whoever answers that would choose the service.
        let service = format!("{}@{}", self.service, context.host);
        Box::pin(async move {
            // This is the client's I/O thread, and the ticket comes over the network.
            let made = tokio::task::spawn_blocking(move || C::for_service(&service)).await;
            let made = made.map_err(|_| SaslError::Credentials("the thread that gets tickets ended".to_owned()))?;
            let context = made.map_err(SaslError::Credentials)?;
            Ok(Box::new(Exchange { context, state: State::Establishing }) as Box<dyn SaslExchange>)
        })
    }

    fn sends_secret(&self) -> bool {
        false // a ticket is of no use to who reads it
    }
}

/// One authentication (RFC 4752, 3.1).
struct Exchange<C> {
    context: C,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Tokens go back and forth.
    Establishing,
    /// The broker says next which layers of security it offers.
    Layers,
    /// We have chosen. The broker's last answer is empty.
    Chosen,
}

/// No layer of security: TLS is below.
const NO_LAYER: u8 = 1;

impl<C: Context> Exchange<C> {
    fn establish(&mut self, token: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        let (token, established) = self.context.step(token).map_err(SaslError::Credentials)?;
        if established {
            self.state = State::Layers;
        }
        Ok(Zeroizing::new(token)) // may be empty when it is established: the broker waits for a message all the same
    }
}

impl<C: Context> SaslExchange for Exchange<C> {
    fn first(&mut self) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        self.establish(&[])
    }

    fn next(&mut self, challenge: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, SaslError> {
        match self.state {
            State::Establishing => self.establish(challenge).map(Some),
            State::Layers => {
                // That it can be unwrapped proves who the broker is.
                let offer = self.context.unwrap(challenge).map_err(|_| SaslError::ServerSignature)?;
                let malformed = |why: &str| SaslError::Malformed { message: "offer of layers", why: why.to_owned() };
                let [layers, _, _, _] = offer[..] else { return Err(malformed("it has not four bytes")) };
                if layers & NO_LAYER == 0 {
                    return Err(malformed("it insists on a layer of its own, which Kafka's protocol has no room for"));
                }
                self.state = State::Chosen;
                // No layer, so no buffer; and no other name than the ticket's behind it.
                let chosen = self.context.wrap(&[NO_LAYER, 0, 0, 0]).map_err(SaslError::Credentials)?;
                Ok(Some(Zeroizing::new(chosen)))
            }
            // Kafka answers the last message, too: with nothing. `None` says that we are satisfied.
            State::Chosen if challenge.is_empty() => Ok(None),
            State::Chosen => Err(SaslError::Malformed { message: "last answer", why: "it is not empty".to_owned() }),
        }
    }
}

/// A context that protects nothing: a "wrapped" message is the message behind the letter of who made it.
struct Toy {
    service: String,
}

impl Context for Toy {
    fn for_service(service: &str) -> Result<Toy, String> {
        Ok(Toy { service: service.to_owned() })
    }

    fn step(&mut self, token: &[u8]) -> Result<(Vec<u8>, bool), String> {
        match token {
            b"" => Ok((format!("ticket for {}", self.service).into_bytes(), false)),
            b"mutual" => Ok((Vec::new(), true)),
            _ => Err("the broker does not prove that it knows the service's key".to_owned()),
        }
    }

    fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        message.strip_prefix(b"B").map(<[u8]>::to_vec).ok_or_else(|| "not of this context".to_owned())
    }

    fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        Ok([b"C", message].concat())
    }
}

/// What the broker says in each turn, and what it must get for it.
fn play(exchange: &mut dyn SaslExchange) -> Result<(), SaslError> {
    println!("client: {:?}", String::from_utf8_lossy(&exchange.first()?));
    for says in [&b"mutual"[..], b"B\x07\x01\x00\x00", b""] {
        println!("broker: {:?}", String::from_utf8_lossy(says));
        match exchange.next(says)? {
            Some(bytes) => println!("client: {:?}", String::from_utf8_lossy(&bytes)),
            None => println!("client: satisfied"),
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(bootstrap) = std::env::args().nth(1) else {
        let context = Toy::for_service("kafka@broker.example.com")?;
        return Ok(play(&mut Exchange { context, state: State::Establishing })?);
    };
    let sasl = SaslConfig::mechanism(Gssapi::<Toy>::new("kafka"));
    let client = Client::builder([bootstrap]).tls(TlsConfig::new()).sasl(sasl).build().await?;
    println!("{:?}", client.metrics());
    Ok(())
}
