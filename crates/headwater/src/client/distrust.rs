//! Why a connection over TLS did not come about, in words that say what to do.
//!
//! Owns: those words. Does not know: which server it was.

use rustls::{CertificateError, Error};

/// What to say after the server's address; `None` where the failure is not one of TLS.
pub(super) fn in_words(why: &ureq::Error) -> Option<String> {
    let why = match why {
        ureq::Error::Rustls(why) => why,
        ureq::Error::Io(why) => why.get_ref()?.downcast_ref::<Error>()?,
        _ => return None,
    };
    Some(match why {
        Error::InvalidCertificate(why) => format!("shows a certificate that {}", untrusted(why)),
        Error::InvalidMessage(_) => "speaks no TLS; if it speaks plain HTTP, its address begins with http://".to_owned(),
        why => format!("did not agree on TLS: {why}"),
    })
}

fn untrusted(why: &CertificateError) -> String {
    use CertificateError as Why;
    match why {
        Why::NotValidForName | Why::NotValidForNameContext { .. } => "is for another name; use one that stands in it".to_owned(),
        Why::Expired | Why::ExpiredContext { .. } => "has expired".to_owned(),
        Why::NotValidYet | Why::NotValidYetContext { .. } => "is not valid yet (is this machine's clock right?)".to_owned(),
        Why::UnknownIssuer | Why::BadSignature => {
            "nobody vouches for who is trusted here; --ca-cert FILE (or HEADWATER_CA_CERT) names its authority".to_owned()
        }
        Why::Other(_) if why.to_string().contains("CaUsedAsEndEntity") => {
            "is that of an authority and not of a server; make it with the extension basicConstraints=CA:FALSE".to_owned()
        }
        why => format!("cannot be trusted: {why}"),
    }
}
