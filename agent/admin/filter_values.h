#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "agent/admin/filter_program.h"

// Values of comparisons. Internal to the admin module.
namespace weir::admin {

// ParseOperand makes of `text`, as written by the user, what `field` is compared with by
// `op`. `quoted`: wildcards stand for themselves. The
// error's column is left to the caller.
std::expected<Operand, FilterError> ParseOperand(const Field& field, Operator op,
                                                 const std::string& text, bool quoted);

// Whether `op` can be used on fields of `type`.
bool OperatorFits(Operator op, FieldType type);

}  // namespace weir::admin
