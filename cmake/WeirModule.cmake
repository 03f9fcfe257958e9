# weir_module(NAME SOURCES ... MODULES ... LIBRARIES ...)
# One folder below agent/ = one static library weir_NAME. MODULES must be the
# module's row in docs/architecture.md; scripts/check-layers compares the include
# lines and these links with the same table.
function(weir_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;MODULES;LIBRARIES")
  if(arg_SOURCES)
    add_library(weir_${name} STATIC ${arg_SOURCES})
    set(scope PUBLIC)
  else()
    add_library(weir_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  list(TRANSFORM arg_MODULES PREPEND weir_)
  target_link_libraries(weir_${name} ${scope} weir_flags ${arg_MODULES} ${arg_LIBRARIES})
endfunction()
