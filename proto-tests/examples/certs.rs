//! Certificates for a cluster by hand: `cargo run -p proto-tests --example certs -- FOLDER`.

use std::path::Path;

use proto_tests::real::Certificates;

fn main() -> std::process::ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("which folder? certs FOLDER");
        return std::process::ExitCode::from(2);
    };
    match Certificates::create(Path::new(&folder)) {
        Ok(_) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("certs: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
