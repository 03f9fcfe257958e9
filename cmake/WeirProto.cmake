# weir_proto_library(NAME FILES...): C++ from .proto files (paths from proto/),
# included as "weir/v1/flow.pb.h"; generated headers are system includes.
function(weir_proto_library name)
  set(out ${CMAKE_BINARY_DIR}/proto)
  file(MAKE_DIRECTORY ${out})
  set(generated)
  foreach(file ${ARGN})
    string(REPLACE ".proto" "" stem ${file})
    add_custom_command(
      OUTPUT ${out}/${stem}.pb.cc ${out}/${stem}.pb.h
      COMMAND ${Protobuf_PROTOC_EXECUTABLE} --cpp_out=${out} -I ${CMAKE_SOURCE_DIR}/proto ${file}
      DEPENDS ${CMAKE_SOURCE_DIR}/proto/${file}
      COMMENT "protoc ${file}")
    list(APPEND generated ${out}/${stem}.pb.cc)
  endforeach()
  add_library(${name} STATIC ${generated})
  target_include_directories(${name} SYSTEM PUBLIC ${out})
  target_link_libraries(${name} PUBLIC protobuf::libprotobuf)
endfunction()
