//! One order, from the first word to the chain (RFC 8555 §7.4).

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier,
    ChallengeStatus, ChallengeType, ExternalAccountKey, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};

use super::certificate::{self, Certificate, KeyPem};
use super::client::Client;
use super::failure::OrderError;
use super::files::{self, Files, Journal, Pending};
use crate::config::acme::{Acme, Challenge};
use crate::issued::{Answer, Answering, Issued};

/// How long the server may take to look for our answer, and again to sign.
const SERVER_LIMIT: Duration = Duration::from_secs(90);

/// How the server is asked how far it is: after a quarter of a second, then less and less often.
const POLL: RetryPolicy = RetryPolicy::new().backoff(1.5).timeout(SERVER_LIMIT);

/// How long an order may take in all.
const ORDER_LIMIT: Duration = Duration::from_secs(300);

/// What an order needs.
pub(super) struct Ordering<'o> {
    pub(super) settings: &'o Acme,
    pub(super) files: &'o Files,
    pub(super) client: &'o Client,
    pub(super) issued: &'o Arc<Issued>,
}

/// What is ordered.
pub(super) struct Wish<'w> {
    pub(super) name: &'w str,
    pub(super) challenge: Challenge,
    /// The certificate that this one takes the place of (RFC 9773 §5).
    pub(super) replaces: Option<&'w CertificateIdentifier<'static>>,
}

impl Ordering<'_> {
    /// Gets a certificate, and keeps it. An order that is under way for the name is taken up.
    ///
    /// # Errors
    /// When there is no certificate. Whether the order is still under way is in the journal.
    pub(super) async fn obtain(
        &self,
        wish: &Wish<'_>,
        journal: &mut Journal,
        now: u64,
    ) -> Result<Certificate, OrderError> {
        let obtained = tokio::time::timeout(ORDER_LIMIT, self.follow(wish, journal, now));
        let obtained = obtained.await.unwrap_or(Err(OrderError::TooSlow));
        if obtained.as_ref().map_or_else(OrderError::is_final, |_| true) {
            journal.pending = None;
        }
        if obtained.as_ref().is_err_and(OrderError::is_account_unknown) {
            self.files.forget_account();
        }
        obtained
    }

    async fn follow(
        &self,
        wish: &Wish<'_>,
        journal: &mut Journal,
        now: u64,
    ) -> Result<Certificate, OrderError> {
        let account = self.account().await?;
        let (mut order, key) = self.order(&account, wish, journal, now).await?;
        if order.state().status == OrderStatus::Pending {
            let _answering = self.answer(&mut order, wish).await?;
            match order.poll_ready(&POLL).await {
                Ok(OrderStatus::Invalid) | Err(instant_acme::Error::Api(_))
                    if order.state().status == OrderStatus::Invalid =>
                {
                    return Err(refused(&mut order, wish).await);
                }
                ready => ready?,
            };
        }
        if order.state().status == OrderStatus::Ready {
            order.finalize_csr(&key.request(wish.name)?).await?;
        }
        let chain = order.poll_certificate(&POLL).await?;
        let pem = format!("{}{chain}", key.secret());
        let certificate = Certificate::read(&pem, wish.name)?;
        self.files.keep_certificate(wish.name, &pem)?;
        Ok(certificate)
    }

    /// The account, which is made if there is none.
    pub(super) async fn account(&self) -> Result<Account, OrderError> {
        let builder = || Account::builder_with_http(Box::new(self.client.clone()));
        let contact: Vec<&str> = self.settings.contact.iter().map(|contact| &**contact).collect();
        if let Some(kept) = self.files.account::<AccountCredentials>() {
            let told = kept.contact;
            let account = builder().from_credentials(kept.credentials).await?;
            if told != self.settings.contact {
                account.update_contacts(&contact).await?;
                // Read again: the library takes the credentials, and gives none back.
                if let Some(kept) = self.files.account::<AccountCredentials>() {
                    let contact = self.settings.contact.clone();
                    self.files.keep_account(&files::Account { contact, ..kept })?;
                }
            }
            return Ok(account);
        }
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let external = self.settings.external_account.as_ref();
        let external = external
            .map(|account| ExternalAccountKey::new(account.id.to_string(), account.key.secret()));
        let directory = self.settings.directory.to_string();
        let made = builder().create(&wanted, directory, external.as_ref()).await?;
        let (account, credentials) = made;
        let contact = self.settings.contact.clone();
        self.files.keep_account(&files::Account { contact, credentials })?;
        tracing::info!(account = account.id(), "an account at the ACME server was made");
        Ok(account)
    }

    /// The order that is under way, or another one, with the key that is to be certified.
    async fn order(
        &self,
        account: &Account,
        wish: &Wish<'_>,
        journal: &mut Journal,
        now: u64,
    ) -> Result<(Order, KeyPem), OrderError> {
        if let Some(pending) = journal.pending.take_if(|pending| *pending.name == *wish.name)
            && let Ok(mut order) = account.order(pending.url.clone()).await
            && order.state().status != OrderStatus::Invalid
        {
            tracing::info!(name = wish.name, "an order is taken up again");
            let key = pending.key.clone();
            journal.pending = Some(pending);
            return Ok((order, key));
        }
        let identifiers = [Identifier::Dns(wish.name.to_owned())];
        let mut wanted = NewOrder::new(&identifiers);
        if let Some(replaced) = wish.replaces {
            wanted = wanted.replaces(replaced.clone());
        }
        // Counted before it is made: nothing that goes wrong here makes more of them.
        journal.orders.push(now);
        self.files.keep_journal(journal)?;
        let key = KeyPem::make()?;
        let order = account.new_order(&wanted).await?;
        let pending =
            Pending { name: wish.name.into(), url: order.url().to_owned(), key: key.clone() };
        journal.pending = Some(pending);
        self.files.keep_journal(journal)?;
        Ok((order, key))
    }

    /// Answers the challenge of a name, for as long as what is returned is held.
    async fn answer(
        &self,
        order: &mut Order,
        wish: &Wish<'_>,
    ) -> Result<Option<Answering>, OrderError> {
        let mut all = order.authorizations();
        let mut answering = None;
        // One name, one authorization.
        while let Some(authorization) = all.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Pending => {
                    answering = Some(self.begin(&mut authorization, wish).await?);
                }
                AuthorizationStatus::Valid
                | AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => {}
            }
        }
        Ok(answering)
    }

    async fn begin<'a>(
        &self,
        authorization: &'a mut AuthorizationHandle<'a>,
        wish: &Wish<'_>,
    ) -> Result<Answering, OrderError> {
        let mut challenge =
            authorization.challenge(kind(wish.challenge)).ok_or(OrderError::NotOffered)?;
        let authorized = challenge.key_authorization();
        let answer = match wish.challenge {
            Challenge::Http01 => Answer::Http {
                token: challenge.token.as_str().into(),
                authorization: authorized.as_str().into(),
            },
            Challenge::TlsAlpn01 => Answer::Tls {
                name: wish.name.into(),
                server: certificate::challenge(wish.name, authorized.digest().as_ref())
                    .map_err(OrderError::Key)?,
            },
        };
        let answering = self.issued.answer(answer);
        if challenge.status == ChallengeStatus::Pending {
            challenge.set_ready().await?;
        }
        Ok(answering)
    }
}

fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    }
}

/// Why the server found no answer.
async fn refused(order: &mut Order, wish: &Wish<'_>) -> OrderError {
    let mut all = order.authorizations();
    while let Some(Ok(mut authorization)) = all.next().await {
        if let Err(error) = authorization.refresh().await {
            return error.into();
        }
        let errors = authorization.challenges.iter().filter_map(|one| one.error.clone());
        if let Some(problem) = errors.into_iter().next() {
            return OrderError::Challenge(wish.challenge, problem);
        }
    }
    OrderError::Server(instant_acme::Error::Str("a reason for the refusal"))
}
