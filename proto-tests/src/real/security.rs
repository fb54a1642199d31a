//! Listeners that ask who one is: certificates, users and what they may do.
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{AlterUserScramCredentialsRequest, CreateAclsRequest};

use super::admin::text;
use super::cluster::{RealCluster, io_error};
use super::error::HarnessError;
use crate::certs::{Authority, Issued};

/// The class of [`RealConfig::config`](super::RealConfig::config) `authorizer.class.name` with KRaft.
pub const AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";

/// Versions that Kafka 2.8 to 4.3 all have.
const CREATE_ACLS: i16 = 2;
const ALTER_USER_SCRAM_CREDENTIALS: i16 = 0;
/// The least that Kafka takes.
const ITERATIONS: u32 = 4096;

/// Authority, brokers' and client's certificate of one cluster, in a folder.
#[derive(Debug)]
pub struct Certificates {
    /// Signs more of them.
    pub authority: Authority,
    /// The folder: `ca.pem`; `broker.pem`, key and chain for 127.0.0.1; `client.pem`, the same for the client `alice`.
    pub folder: PathBuf,
}

impl Certificates {
    /// Makes new ones in this folder.
    ///
    /// # Errors
    /// [`HarnessError::Io`] when a file cannot be written.
    pub fn create(folder: &Path) -> Result<Self, HarnessError> {
        let authority = Authority::new("indelible tests");
        let made = Self { folder: folder.into(), authority };
        std::fs::create_dir_all(folder).map_err(|cause| io_error(&format!("making {}", folder.display()), cause))?;
        made.write("ca.pem", &made.authority.pem())?;
        made.write("client.pem", &made.authority.client("alice").keystore())?;
        made.write("broker.pem", &made.authority.server(&["127.0.0.1"]).keystore())?;
        Ok(made)
    }

    /// A client's certificate by this authority; a broker calls whoever has it `User:CN=name`.
    #[must_use]
    pub fn client(&self, name: &str) -> Issued {
        self.authority.client(name)
    }

    /// Writes a file into the folder, as one step: nobody sees half of it.
    ///
    /// # Errors
    /// [`HarnessError::Io`] when it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf, HarnessError> {
        let (path, new) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        std::fs::write(&new, content)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|cause| io_error(&format!("writing {}", path.display()), cause))?;
        Ok(path)
    }
}

/// A token for OAUTHBEARER that nobody signed (RFC 7515, appendix A.5), issued a minute ago and good until `seconds` from now.
/// The brokers of a [`secure`](super::RealConfig::secure) cluster call whoever has it `User:subject`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a token expires by the clock")]
pub fn unsigned_token(subject: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()).cast_signed();
    let claims = format!(r#"{{"sub":"{subject}","iat":{},"exp":{}}}"#, now - 60, now + seconds);
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
}

/// What a rule is about.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// A topic; `*` means every one.
    Topic(&'a str),
    /// A consumer group; `*` means every one.
    Group(&'a str),
    /// The cluster itself.
    Cluster,
}

impl Resource<'_> {
    fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Group(_) => 3,
            Self::Cluster => 4,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Topic(name) | Self::Group(name) => name,
            Self::Cluster => "kafka-cluster",
        }
    }
}

/// What a principal does to a resource, with Kafka's code.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "Kafka's own names")]
#[repr(i8)]
pub enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    IdempotentWrite = 12,
}

const LITERAL: i8 = 3;
const ALLOW: i8 = 3;

impl RealCluster {
    /// Allows an operation on these resources to a principal such as `User:alice`. What the rules of a resource do not
    /// allow is refused from then on. The brokers apply rules in their order, a moment after this returns.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] when the cluster has no authorizer.
    pub fn allow(&self, principal: &str, operation: Operation, resources: &[Resource<'_>]) -> Result<(), HarnessError> {
        let rule = |resource: &Resource<'_>| {
            AclCreation::default()
                .with_resource_type(resource.kind())
                .with_resource_name(text(resource.name()))
                .with_resource_pattern_type(LITERAL)
                .with_principal(text(principal))
                .with_host(text("*"))
                .with_operation(operation as i8)
                .with_permission_type(ALLOW)
        };
        let request = CreateAclsRequest::default().with_creations(resources.iter().map(rule).collect());
        self.ask("CreateAcls", principal, &request, CREATE_ACLS, |response| {
            response.results.iter().map(|one| (one.error_code, one.error_message.clone())).collect()
        })
    }

    /// Gives a user a password for SCRAM-SHA-256 and SCRAM-SHA-512, or another one. The brokers learn it a moment later.
    ///
    /// # Errors
    /// [`HarnessError::Refused`] with Kafka's reason.
    pub fn scram_user(&self, name: &str, password: &str) -> Result<(), HarnessError> {
        let salt = b"salt of the tests";
        let mut sha_256 = [0; 32];
        pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.as_bytes(), salt, ITERATIONS, &mut sha_256);
        let mut sha_512 = [0; 64];
        pbkdf2::pbkdf2_hmac::<sha2::Sha512>(password.as_bytes(), salt, ITERATIONS, &mut sha_512);
        for (mechanism, salted) in [(1, &sha_256[..]), (2, &sha_512[..])] {
            let upsertion = ScramCredentialUpsertion::default()
                .with_name(text(name))
                .with_mechanism(mechanism)
                .with_iterations(ITERATIONS.cast_signed())
                .with_salt(Bytes::from_static(salt))
                .with_salted_password(Bytes::copy_from_slice(salted));
            // One at a time: Kafka refuses the same user twice in a request.
            let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion]);
            self.ask("AlterUserScramCredentials", name, &request, ALTER_USER_SCRAM_CREDENTIALS, |response| {
                response.results.iter().map(|one| (one.error_code, one.error_message.clone())).collect()
            })?;
        }
        Ok(())
    }
}
