//! `RegistryService`.

mod cases;
mod deadlines;
mod disposal;
mod recordings;
mod show;

use std::sync::Arc;

use caselock_domain::{
    case::{CaseError, CaseNumber},
    id::BureauId,
    reason::Reason,
    time::Clock,
};
use caselock_front::{Caller, Refusal};
use caselock_proto::v1::{
    AddCaseNoteRequest, AddCaseNoteResponse, AmendCaseRequest, AmendCaseResponse, BindRecordingsRequest,
    BindRecordingsResponse, CaseName, CloseCaseRequest, CloseCaseResponse, DisposeRecordingsRequest,
    DisposeRecordingsResponse, ExtendDeadlinesRequest, ExtendDeadlinesResponse, FindRecordingsRequest,
    FindRecordingsResponse, GetCaseRequest, GetCaseResponse, ListCasesRequest, ListCasesResponse, ListDeadlinesRequest,
    ListDeadlinesResponse, ListDisposableRequest, ListDisposableResponse, OpenCaseRequest, OpenCaseResponse,
    ReopenCaseRequest, ReopenCaseResponse, registry_service_server::RegistryService,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::{Cases, Disposer, Following, Keeper, Periods, RegistryError};

/// What every call works with.
pub struct Api {
    pub cases: Cases,
    pub following: Arc<Following>,
    pub keeper: Keeper,
    pub disposer: Disposer,
    pub periods: Periods,
    pub clock: Clock,
    /// Whether bureaus may close their cases themselves.
    pub bureaus_close_cases: bool,
    /// Whether bureaus may extend their deadlines themselves.
    pub bureaus_extend_deadlines: bool,
}

/// Texts of requests: fields and what they may be.
const MAX_PAGE: u32 = 1_000;
const DEFAULT_PAGE: u32 = 100;

/// The bureau that a caller means, who may be an operator.
fn bureau(caller: &Caller, named: &str, field: &str) -> Result<BureauId, Refusal> {
    let wanted = "your own bureau, or nothing; an operator names a bureau";
    match (&caller.bureau, named) {
        (Some(own), "") => Ok(own.clone()),
        (Some(own), named) if own.as_str() == named => Ok(own.clone()),
        (_, named) if caller.is_operator => {
            named.parse().map_err(|_| Refusal::field(Reason::RequestInvalid, field, wanted))
        }
        _ => Err(Refusal::field(Reason::RequestInvalid, field, wanted)),
    }
}

/// The case that a caller names.
fn named(caller: &Caller, name: Option<CaseName>) -> Result<(BureauId, CaseNumber), Refusal> {
    let name = name.unwrap_or_default();
    let bureau = bureau(caller, &name.bureau, "case.bureau")?;
    let number = CaseNumber::try_from(name.number)
        .map_err(|error| Refusal::field(Reason::RequestInvalid, "case.number", error.expected))?;
    Ok((bureau, number))
}

/// What a page comes after, by its token: a number, a point and an id. The first page comes after nothing.
fn token(text: &str) -> Result<Option<(i64, String)>, Refusal> {
    match text.split_once('.') {
        None if text.is_empty() => Ok(None),
        Some((at, id)) if at.parse::<i64>().is_ok() => Ok(Some((at.parse().unwrap_or_default(), id.to_owned()))),
        _ => Err(Refusal::field(Reason::RequestInvalid, "page_token", "the next_page_token of the page before")),
    }
}

fn page_size(asked: u32) -> Result<u32, Refusal> {
    match asked {
        0 => Ok(DEFAULT_PAGE),
        1..=MAX_PAGE => Ok(asked),
        _ => Err(Refusal::field(Reason::RequestInvalid, "page_size", "at most 1000")),
    }
}

/// Errors as callers are told of them.
fn refusal(error: RegistryError) -> Refusal {
    match error {
        RegistryError::Case(CaseError::Opening) => {
            Refusal::new(Reason::CaseNotFound, "no such case of this bureau: open it first")
        }
        RegistryError::Case(CaseError::Closed) => {
            Refusal::new(Reason::CaseClosed, "the case is closed, as another class or on another day: reopen it first")
        }
        RegistryError::Case(CaseError::Open) => Refusal::new(Reason::CaseNotClosed, "the case is open"),
        RegistryError::Disposed(id) => {
            Refusal::new(Reason::RecordingNotFound, format!("{id} is being removed: its retention had run out"))
        }
        RegistryError::Unsettled => Refusal::new(
            Reason::LockUnsettled,
            "it is held, but an earlier order to lift the hold may still be on its way: ask again in a minute",
        ),
        error => {
            tracing::error!(%error, "a request to the registry failed");
            Refusal::new(
                Reason::RegistryUnavailable,
                "the registry can't do it now; nothing was changed that a repetition would not mend",
            )
        }
    }
}

/// Calls at work at once.
const CALLS: usize = 64;

/// The service on the wire.
pub struct ApiServer {
    api: Arc<Api>,
    room: Arc<Semaphore>,
}

impl ApiServer {
    /// Serves these calls, some at once: what callers have left behind counts until it is done.
    pub fn new(api: Api) -> Self {
        Self { api: Arc::new(api), room: Arc::new(Semaphore::new(CALLS)) }
    }
}

/// Of a call that came to no answer, as where the registry stops.
fn ended() -> Refusal {
    Refusal::new(Reason::RegistryUnavailable, "the call ended before its answer: ask again")
}

macro_rules! calls {
    ($($name:ident: $request:ident -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl RegistryService for ApiServer {
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                let caller = Caller::of(&request)?;
                let room = self.room.clone().acquire_owned().await.map_err(|_| ended())?;
                // On a task of its own: a caller who goes away stops nothing halfway.
                let (api, request) = (self.api.clone(), request.into_inner());
                let answered = tokio::spawn(async move {
                    let _room = room;
                    api.$name(&caller, request).await
                })
                .await;
                let answer = answered.map_err(|_| ended())??;
                Ok(Response::new(answer))
            })+
        }
    };
}

calls! {
    open_case: OpenCaseRequest -> OpenCaseResponse;
    amend_case: AmendCaseRequest -> AmendCaseResponse;
    bind_recordings: BindRecordingsRequest -> BindRecordingsResponse;
    close_case: CloseCaseRequest -> CloseCaseResponse;
    reopen_case: ReopenCaseRequest -> ReopenCaseResponse;
    add_case_note: AddCaseNoteRequest -> AddCaseNoteResponse;
    get_case: GetCaseRequest -> GetCaseResponse;
    list_cases: ListCasesRequest -> ListCasesResponse;
    find_recordings: FindRecordingsRequest -> FindRecordingsResponse;
    list_deadlines: ListDeadlinesRequest -> ListDeadlinesResponse;
    extend_deadlines: ExtendDeadlinesRequest -> ExtendDeadlinesResponse;
    list_disposable: ListDisposableRequest -> ListDisposableResponse;
    dispose_recordings: DisposeRecordingsRequest -> DisposeRecordingsResponse;
}
