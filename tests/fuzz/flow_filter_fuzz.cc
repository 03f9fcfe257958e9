#include <array>
#include <string>
#include <string_view>

#include "agent/admin/filter.h"
#include "agent/admin/target.h"
#include "tests/fuzz/property.h"
#include "tests/support/flow_records.h"

// A filter expression, and a request target that carries one. Whatever the bytes: an
// expression compiles or is refused at a place inside it; a term that alone fails a flow
// means that the whole filter fails it; and the expression evaluates without a failure.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using weir::admin::Filter;
  const std::string text(data, data + size);
  static const std::array<weir::observe::Record, 3> kRecords = {weir::test::MakeRequest(),
                                                                weir::test::MakeFailedRequest(),
                                                                weir::test::MakeDeniedConnection()};
  if (const auto filter = Filter::Compile(text); !filter) {
    WEIR_PROPERTY(filter.error().column >= 1 && filter.error().column <= size + 1);
    WEIR_PROPERTY(!filter.error().message.empty());
  } else {
    for (const auto& record : kRecords) {
      const bool matches = filter->Matches(record.flow);
      WEIR_PROPERTY(!matches || !filter->OnlyFailingTerm(record.flow));
    }
    const auto negated = Filter::Compile("not (" + text + ")");
    if (negated && filter->term_count() != 0) {
      for (const auto& record : kRecords) {
        WEIR_PROPERTY(negated->Matches(record.flow) != filter->Matches(record.flow));
      }
    }
  }
  if (const auto target = weir::admin::ParseTarget(text)) {
    (void)weir::admin::ParseFlowQuery(*target, weir::test::kFlowsBegin);
    (void)weir::admin::ParseTraceQuery(*target, weir::test::kFlowsBegin);
    (void)weir::admin::ParseMapWindow(*target);
    (void)weir::admin::ParseTopQuery(*target);
    (void)weir::admin::ParseCheckSubject(*target);
  }
  return 0;
}
