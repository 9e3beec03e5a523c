//! How the server behaves towards browsers, proxies, and whoever tries its patience with the letter of HTTP.

mod assignment;
mod browsers;
mod coding;
mod proxies;
mod reading;
mod refusals;
mod smuggling;

use crate::api::app::{Answer, Options, TestApp};

const STATE: &str = "/workflows/order/executions/e1/state";

async fn app_with(settings: &[(&str, &str)]) -> TestApp {
    TestApp::sqlite_with(settings.iter().fold(Options::default(), |options, (key, value)| options.set(key, value))).await
}

/// All values of a header as one list of lower-case words.
fn words(answer: &Answer, name: &str) -> Vec<String> {
    let values = answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap());
    values.flat_map(|value| value.split(',')).map(|word| word.trim().to_lowercase()).collect()
}
