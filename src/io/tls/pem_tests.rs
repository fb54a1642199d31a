//! PEM as openssl and keytool write it. The key is made for these tests and used nowhere.

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::{Encode, asn1::OctetStringRef};
use pkcs8::pkcs5::pbes2::Parameters;
use proto_tests::certs::{Authority, pem as to_pem};
use rustls::pki_types::PrivateKeyDer;

use super::pem::{certificates, private_key};

/// `openssl ecparam -name prime256v1 -genkey -noout`
const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEILFyS0NuHH5oJMIKIw8aTumACt7n+Zx+0SKJHEzeTtwNoAoGCCqGSM49
AwEHoUQDQgAE+kkbm3moF0Ar9HqvMlhhqrEygnVZewlIIj6tYx+YEbWYQxdPAvIg
TU87EoEeCOmq0HQouDftM/KlcukI78cC6w==
-----END EC PRIVATE KEY-----
";
/// The same by `openssl pkcs8 -topk8`: PBKDF2 with HMAC-SHA-256, AES-256-CBC. The password is `changeit`.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgu/iqr+Jh0igICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEL6nTl6MQd4XA3r1RSlSITsEgZCS
3MnAjAgI8F92u1ztQbQ3tfmSQ+zySCEmxXhdi6iI6BmGj1N5VZNB0rDCHDau7sUL
uW/yhRMSHsVvBsO0EH/dW7IvJurFUHkwsoIRM/zFsrUHE/oHvPkrrLCCwJ+jhTYa
MegBr23cytCdQNDGv7JMoTHuse6AQaE2K8Tc3XT1f5M8uiCpa2MV6iuWUo9fRSc=
-----END ENCRYPTED PRIVATE KEY-----
";
/// By `openssl pkcs8 -topk8 -scrypt`.
const SCRYPT: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHkME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAiSurmJLExvHgICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBBTuX/rMl1DGLem2wau+/4zBIGQ7Xh9QJoUiq/q
2Qt4ER5Tv+QSiXbuLF4pXvBhEtxQhgdQ1c4D+272eXxeJVRpQrlZ1jmeD52hY5Xr
a9FC1G1+KXDLSv1Ub8PtmH7X1949kzSzlDA4whaULxh92qEZiyeRV8ha585gCM3C
Z8lUH9XRnnEpo6n/W0zyeGWo8BTNOiKtAt0IGYqYe2+DSCwBSb7l
-----END ENCRYPTED PRIVATE KEY-----
";
/// By `openssl pkcs8 -topk8 -v2prf hmacWithSHA1`.
const WITH_SHA1: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHeMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAh056pEB7e4+AICCAAw
HQYJYIZIAWUDBAEqBBCK9JPFV3LfzlnB6tzJpnv2BIGQAiRjoWPXxpmDK11hGzta
/0WRHoS+oRx+7IxfmKuRYYAuv4Cb5bGIj80inA467RlSbO8sTHtrTAfuB4NWzLsc
oxhasjOGmiMOCb9PYrdATuvOSSPFgphfKJ4RvB4WaYFqOHmpRErk7WjGuq8RXXWW
e0qJeO0rLiX/dve+FcA4P65R2IYBrgM4hWgBr9VIFxnp
-----END ENCRYPTED PRIVATE KEY-----
";
/// By `openssl pkcs8 -topk8 -v2 des3`.
const WITH_3DES: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHjME4GCSqGSIb3DQEFDTBBMCkGCSqGSIb3DQEFDDAcBAg5JQetQ/OLqgICCAAw
DAYIKoZIhvcNAgkFADAUBggqhkiG9w0DBwQI1ApOMtUI/08EgZAu45CklIuBDIpS
Dq+fkApsblqY1wd+IuhdWhGUzaByYYvYFfdBl8zRJn/UEexTlqP5LNugKHnfQHqg
FwslgzZ1RDIMNuFih9LoXt419/pjiM+/9QmZQAeHzQP20E8eaYRTxwsMCnWZnhOj
b6/ie66j0ZUw9VfGsjifxfz8HUX4kEEFpmRKFU9xSImSZhMakok=
-----END ENCRYPTED PRIVATE KEY-----
";
/// By `openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES`.
const PBES1: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGxMBwGCiqGSIb3DQEMAQMwDgQI1grvS4XPB3UCAggABIGQb5ZwOO5wMlO2PUr+
4dy8b+uZ3E5KPrLHx1wuMm/g2f3/M+m9eQ7iU2X2CU709UL33jvKPaVPPMYqqNQ7
1dDnvh3eim9hFVx0ZXs3KB97fHam1K2hQ6IfxR0Eae2Umryryrud7tJ+kMEYNVFb
SRE7ZH7qYcUUNOD8ILzzyDuI+G842F16XK3xh2NOl41wMmEd
-----END ENCRYPTED PRIVATE KEY-----
";
/// By `openssl ec -aes128`.
const TRADITIONAL: &str = "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,E13694AE81C3342EFE40CB5447CAFCC2

PRigddXuTBDlacYk9xZt2P3384YMjwpzVt+uhI6t8X10n6qnLaftdnKcpHOlNFZn
gtFD0oFhBddVQ0ypHaEaVrMOV314mau2V7NIruwKa9q8sAXnZN5geH7tp875qI1+
QQXQ25aU4U/kia7UOz4V1niGabxoCxqwJ0zsR3hsZJc=
-----END EC PRIVATE KEY-----
";

fn refused(text: impl AsRef<[u8]>, password: Option<&str>) -> String {
    let why = private_key(text.as_ref(), password).unwrap_err();
    assert!(!why.contains('\n') && !why.contains("changeit"), "{why}");
    why
}

fn pkcs8(key: &PrivateKeyDer<'_>) -> Vec<u8> {
    let PrivateKeyDer::Pkcs8(key) = key else { panic!("{key:?}") };
    key.secret_pkcs8_der().to_vec()
}

#[test]
fn keys_as_openssl_encrypts_them_open_with_the_password_and_no_other() {
    let key = pkcs8(&private_key(ENCRYPTED.as_bytes(), Some("changeit")).unwrap());
    assert_eq!(pkcs8(&private_key(SCRYPT.as_bytes(), Some("changeit")).unwrap()), key);
    let PrivateKeyDer::Sec1(sec1) = private_key(SEC1.as_bytes(), None).unwrap() else { panic!("not SEC1") };
    // The secret number itself: SEC1 holds it behind a version.
    let number = &sec1.secret_sec1_der()[7..39];
    assert!(key.windows(32).any(|window| window == number));
    for wrong in ["wrong", "", "changeit "] {
        assert!(refused(ENCRYPTED, Some(wrong)).contains("ssl.key.password is wrong"));
    }
    assert!(refused(ENCRYPTED, None).contains("set ssl.key.password"));
    // A password for a key that needs none does no harm.
    private_key(SEC1.as_bytes(), Some("changeit")).unwrap();
}

#[test]
fn old_ways_of_encrypting_are_named_with_the_command_that_converts() {
    for (old, named) in [
        (WITH_SHA1, "algorithm that is not supported"),
        (WITH_3DES, "not supported"),
        (PBES1, "old way"),
        (TRADITIONAL, "openssl's old way"),
    ] {
        let why = refused(old, Some("changeit"));
        assert!(why.contains(named) || why.contains("old way"), "{why}");
        assert!(why.contains("openssl pkcs8 -topk8"), "{why}");
    }
}

#[test]
fn a_key_that_asks_for_too_much_work_is_refused_at_once() {
    for kdf in [
        Parameters::generate_pbkdf2_sha256_aes256cbc(50_000_000, &[1; 8], [2; 16]).unwrap(),
        Parameters::generate_scrypt_aes256cbc(pkcs8::pkcs5::scrypt::Params::new(24, 8, 4).unwrap(), &[1; 8], [2; 16])
            .unwrap(),
    ] {
        let data = [0; 32];
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: kdf.into(),
            encrypted_data: OctetStringRef::new(&data).unwrap(),
        };
        let text = to_pem("ENCRYPTED PRIVATE KEY", &info.to_der().unwrap());
        assert!(refused(text, Some("changeit")).contains("too much work"));
    }
}

#[test]
fn what_is_not_pem_is_named_with_the_command_that_converts() {
    for (bytes, what, command) in [
        (&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0][..], "JKS", "keytool"),
        (&[0x30, 0x82, 0, 8, 0x02, 1, 3, 0x30, 0x82, 0, 0, 0], "PKCS#12", "openssl pkcs12"),
        (&[0x30, 0x06, 0x30, 0x02, 0x02, 0, 0, 0], "certificate in DER", "openssl x509 -inform DER"),
        (&[0x30, 0x05, 0x02, 1, 0, 0x30, 0], "private key in DER", "openssl pkey -inform DER"),
        (b"\xff\xfe-\0-\0", "UTF-16", "UTF-8"),
        (b" \n", "empty", ""),
        (b"hello", "no ", "-----BEGIN"),
    ] {
        for why in [refused(bytes, None), certificates(bytes).unwrap_err()] {
            assert!(why.contains(what) && why.contains(command), "{bytes:?}: {why}");
        }
    }
}

#[test]
fn sections_are_read_in_one_line_with_carriage_returns_and_text_between() {
    let authority = Authority::new("ca");
    let (one, two) = (authority.server(&["a"]), authority.pem());
    let text = format!("subject=CN=a\r\n{}\nBag Attributes\n{}{}", one.chain.replace('\n', "\r\n"), two, one.key);
    let found = certificates(text.as_bytes()).unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[1], found[2]);
    let key = private_key(text.as_bytes(), None).unwrap();
    let line = text.replace("\r\n", " ").replace('\n', " ");
    assert_eq!(certificates(line.as_bytes()).unwrap(), found);
    assert_eq!(private_key(line.as_bytes(), None).unwrap(), key);
    // openssl writes the curve before the key.
    let parameters = format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{SEC1}");
    private_key(parameters.as_bytes(), None).unwrap();
}

#[test]
fn damaged_pem_is_said_to_be_damaged() {
    assert!(refused(format!("{SEC1}{SEC1}"), None).contains("more than one"));
    assert!(refused("-----BEGIN PRIVATE KEY-----\nAAAA", None).contains("has no -----END PRIVATE KEY"));
    assert!(refused("-----BEGIN PRIVATE KEY-----\nA*AA\n-----END PRIVATE KEY-----", None).contains("not base64"));
    assert!(refused("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", None).contains("not base64"));
    assert!(refused("-----BEGIN PRIVATE KEY-----\nAA\n-----END CERTIFICATE-----", None).contains("has no -----END"));
    assert!(refused("-----BEGIN ", None).contains("breaks off"));
    assert!(refused(format!("-----BEGIN {}-----", "x".repeat(1000)), None).len() < 100);
    let openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----";
    assert!(refused(openssh, None).contains("OpenSSH"));
    let trusted = "-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----";
    assert!(certificates(trusted.as_bytes()).unwrap_err().contains("openssl x509"));
    assert!(certificates(SEC1.as_bytes()).unwrap_err().contains("no certificate"));
}

#[test]
fn the_issuer_of_a_certificate_is_read_and_nothing_panics_when_it_is_cut() {
    let chain = Authority::new("Test CA 7").server(&["a"]).chain;
    let certificate = certificates(chain.as_bytes()).unwrap().remove(0);
    assert_eq!(super::verify::issuer(&certificate).as_deref(), Some("CN=Test CA 7"));
    for end in 0..certificate.len() {
        let _ = super::verify::issuer(&certificate[..end]);
    }
}
